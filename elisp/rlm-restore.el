;;; rlm-restore.el --- Back to a place in a run  -*- lexical-binding: t; -*-

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

;; A run has an id and each of its nodes too, so that a bookmark, a desktop
;; or an Org link can name a place in it.  The run is drawn again from its
;; log when one comes back.

;;; Code:

(require 'org)
(require 'rlm-run)

(declare-function bookmark-default-handler "bookmark" (record))
(declare-function bookmark-prop-get "bookmark" (name property))
(declare-function rlm-client-buffer "rlm-client" (id))
(declare-function rlm-client-open "rlm-client" (summary))
(declare-function rlm-rpc-use-host "rlm-rpc" (host))
(declare-function rlm-browse--reveal "rlm-browse" ())
(declare-function rlm-redraw "rlm-commands" ())
(defvar desktop-buffer-mode-handlers)

(defvar-local rlm-restore--goal nil
  "Id of the node to which to go when it is drawn, or nil.")

(defun rlm-restore-node ()
  "Return the id of the node at point, or nil."
  (save-excursion
    (and (not (org-before-first-heading-p))
         (org-entry-get nil "RLM_NODE" t))))

(defun rlm-restore-place ()
  "Return the id of the node at point, which at the question is 0, or nil."
  (or (rlm-restore-node)
      (save-excursion
        (and (or (org-before-first-heading-p)
                 (progn (org-back-to-heading t)
                        (not (re-search-backward org-outline-regexp-bol nil t))))
             "0"))))

(defun rlm-restore-go (node)
  "Go to NODE, an id, in this buffer, now or as soon as it is drawn."
  (let ((place (save-excursion
                 (goto-char (point-min))
                 (and (re-search-forward (if (equal node "0")
                                             org-outline-regexp-bol
                                           (format "^:RLM_NODE: %s$" (regexp-quote node)))
                                         nil t)
                      (progn (org-back-to-heading t) (point))))))
    (setq rlm-restore--goal (unless place node))
    (when place
      (goto-char place)
      (dolist (window (get-buffer-window-list nil nil t))
        (set-window-point window place))
      (rlm-browse--reveal))))

(defun rlm-restore-drawn ()
  "Go where this buffer was opened for, if that has been drawn now."
  (when rlm-restore--goal
    (rlm-restore-go rlm-restore--goal)))

;;;###autoload
(defun rlm-restore-open (run &optional node question)
  "Show RUN, an id, and go to its NODE; return the buffer.
QUESTION is what it answers, if that is known."
  (require 'rlm-client)
  (with-current-buffer (rlm-client-open (list :runId run :question (or question run)))
    (when node
      (rlm-restore-go node))
    (current-buffer)))

;;;; Bookmarks

(defun rlm-restore-bookmark ()
  "Return a bookmark's record for point."
  (let ((run rlm-run-current))
    (unless (and run (rlm-run-id run))
      (user-error "This question was never asked"))
    (list (format "rlm: %s" (rlm-run-question run))
          (cons 'rlm-run (rlm-run-id run))
          (cons 'rlm-node (rlm-restore-node))
          (cons 'rlm-host (rlm-run-host run))
          (cons 'rlm-question (rlm-run-question run))
          (cons 'handler #'rlm-restore-jump))))

;;;###autoload
(defun rlm-restore-jump (bookmark)
  "Go where BOOKMARK leads, be it on another machine."
  (require 'rlm-client)
  (unless (rlm-client-buffer (bookmark-prop-get bookmark 'rlm-run))
    (rlm-rpc-use-host (bookmark-prop-get bookmark 'rlm-host)))
  ;; Which window it gets is the business of the command, as Emacs 30 sees to by itself.
  (set-buffer (save-window-excursion
                (rlm-restore-open (bookmark-prop-get bookmark 'rlm-run)
                                  (bookmark-prop-get bookmark 'rlm-node)
                                  (bookmark-prop-get bookmark 'rlm-question)))))
(put 'rlm-restore-jump 'bookmark-handler-type "rlm")

;;;; Desktops

(defun rlm-restore-desktop-data (_directory)
  "Return what a desktop has to know of this buffer."
  (when-let ((id (and rlm-run-current (rlm-run-id rlm-run-current))))
    (list id (rlm-restore-node) (rlm-run-question rlm-run-current)
          (rlm-run-host rlm-run-current))))

;;;###autoload
(defun rlm-restore-desktop (_file _name data)
  "Show the run of DATA, which a desktop has saved; return its buffer.
To begin with, Emacs connects to no other machine."
  (pcase data
    (`(,id ,node ,question . ,(or 'nil '(nil)))
     (save-window-excursion
       (rlm-restore-open id node question)))
    (`(,_ ,_ ,question ,host)
     (message "rlm: the run about `%s' is on %s, and was not drawn" question host)
     nil)))

;;;###autoload
(add-to-list 'desktop-buffer-mode-handlers '(rlm-trajectory-mode . rlm-restore-desktop))

(defun rlm-restore-setup ()
  "Let the current buffer be bookmarked, saved in desktops, and reverted."
  (setq-local bookmark-make-record-function #'rlm-restore-bookmark)
  (setq-local desktop-save-buffer #'rlm-restore-desktop-data)
  (setq-local revert-buffer-function (lambda (&rest _) (rlm-redraw))))

(provide 'rlm-restore)
;;; rlm-restore.el ends here
