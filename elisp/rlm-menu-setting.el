;;; rlm-menu-setting.el --- The kinds of settings in the menu  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; A setting is a line of the menu whose value is kept in a plist, in the
;; words of the protocol: read in the minibuffer, switched on and off, or
;; left as configured.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'transient)

(defvar rlm-menu--settings nil
  "The settings of the menu, a plist.")

(defmacro rlm-menu--reading (default &rest body)
  "Return the value of BODY; DEFAULT, where it is quit or the input is wrong.
The menu stays in any case: an error in it would close it."
  (declare (indent 1) (debug t))
  `(condition-case problem
       (let ((overriding-terminal-local-map nil)
             (enable-recursive-minibuffers t))
         ,@body)
     (quit ,default)
     (error (message "%s" (error-message-string problem))
            (sit-for 1)
            ,default)))

(defclass rlm-menu-setting (transient-infix)
  ((setting :initarg :setting
            :documentation "Name of the setting, a keyword.")
   (unset :initarg :unset :initform "as configured"
          :documentation "What stands in the menu where nothing is set.")
   (format :initform " %k %d %v"))
  "A setting that is read in the minibuffer; empty means as configured.")

(defclass rlm-menu-switch (rlm-menu-setting) ()
  "A setting with the values t and nil.")

(cl-defmethod transient-init-value ((menu-item rlm-menu-setting))
  "Show in MENU-ITEM what is set."
  (oset menu-item value (plist-get rlm-menu--settings (oref menu-item setting))))

(cl-defmethod transient-infix-set ((menu-item rlm-menu-setting) value)
  "Let VALUE be set by MENU-ITEM."
  (setq rlm-menu--settings (plist-put rlm-menu--settings (oref menu-item setting) value))
  (oset menu-item value value))

(cl-defmethod transient-infix-read ((menu-item rlm-menu-setting))
  "Read a value for MENU-ITEM; if that is quit, the old one stays."
  (rlm-menu--reading (oref menu-item value)
    (let ((value (funcall (oref menu-item reader) (oref menu-item value))))
      (unless (equal value "")
        value))))

(cl-defmethod transient-infix-read ((menu-item rlm-menu-switch))
  "Switch MENU-ITEM, which is on or off, to the other."
  (not (oref menu-item value)))

(defclass rlm-menu-choice (rlm-menu-setting) ()
  "A setting that goes from as configured to on, to off, and back.")

(cl-defmethod transient-infix-read ((menu-item rlm-menu-choice))
  "Take the next value of MENU-ITEM."
  (rlm-menu--next (oref menu-item value)))

(defun rlm-menu--next (value)
  "Return what comes after VALUE: on after unset, then off, then unset."
  (cond ((null value) t)
        ((eq value t) :json-false)))

(cl-defmethod transient-format-value ((menu-item rlm-menu-setting))
  "Return what is set by MENU-ITEM, as it is shown."
  (let ((value (oref menu-item value)))
    (if value
        (propertize (rlm-menu--shown value) 'face 'transient-value)
      (propertize (oref menu-item unset) 'face 'transient-inactive-value))))

(defun rlm-menu--shown (value)
  "Return VALUE as it is shown in the menu."
  (cond ((eq value t) "on")
        ((eq value :json-false) "off")
        ((floatp value) (format "%.10g" value))
        (t (format "%s" value))))

(defun rlm-menu--number-reader (prompt test wanted)
  "Return a reader of numbers with PROMPT.
It has to pass TEST; WANTED says in words what does."
  (lambda (old)
    (let ((text (string-trim (read-string (format "%s (empty: as configured): " prompt)
                                          (and old (rlm-menu--shown old))))))
      (unless (string-empty-p text)
        (let ((number (and (string-match-p "\\`[0-9]*\\.?[0-9]+\\'" text)
                           (string-to-number text))))
          (if (and number (funcall test number))
              number
            (user-error "This has to be %s" wanted)))))))

(provide 'rlm-menu-setting)
;;; rlm-menu-setting.el ends here
