;;; rlm-settings.el --- How questions are asked, remembered by project and name  -*- lexical-binding: t; -*-

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

;; Settings are a plist in the words of the protocol, the limits among the
;; rest: (:rootModel "big" :cost 0.5 :approve t).  Those that were used last
;; are remembered for each project, and those that have a name, presets, for
;; all of them, in one private file.
;;
;; A subject is what a question can be about here and now: the region, the
;; collection, the project and so on.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)
(require 'rlm)
(require 'rlm-ask)
(require 'rlm-collection)
(require 'rlm-collection-save)
(require 'rlm-context)
(require 'rlm-context-files)
(require 'rlm-options)
(require 'rlm-private)

(declare-function project-root "project" (project))
(declare-function rlm-dired-files "rlm-dired" ())

(defcustom rlm-settings-file (locate-user-emacs-file "rlm/settings.eld")
  "File that keeps the presets, and the settings used last in each project."
  :group 'rlm
  :type 'file
  :package-version '(rlm . "0.1.0"))

(defconst rlm-settings--once '(:fresh)
  "The settings that are for one question, and not remembered.")

(defconst rlm-settings--projects 200
  "For how many projects settings are remembered.")

;;;; Settings

(defun rlm-settings-text (settings)
  "Return SETTINGS in a line for people."
  (let ((parts (cl-loop for (name value) on settings by #'cddr
                        when value
                        collect (let ((name (substring (symbol-name name) 1)))
                                  (pcase value
                                    ('t name)
                                    (:json-false (concat name " off"))
                                    (_ (format "%s %s" name value)))))))
    (if parts (string-join parts ", ") "as set")))

;;;; The file

(defun rlm-settings--read ()
  "Return what is kept, a plist of :presets and :projects, both alists."
  (let ((kept (rlm-private-read rlm-settings-file)))
    (if (and (proper-list-p kept) (eql (plist-get kept :version) 1))
        kept
      (list :version 1 :presets nil :projects nil))))

(defun rlm-settings--put (part name settings)
  "Keep SETTINGS under NAME in PART, :presets or :projects; nil: keep none."
  (let* ((kept (rlm-settings--read))
         (others (seq-remove (lambda (entry) (equal (car entry) name))
                             (plist-get kept part)))
         (all (if settings (cons (cons name settings) others) others)))
    (rlm-private-write
     rlm-settings-file
     (plist-put kept part (if (eq part :projects)
                              (seq-take all rlm-settings--projects)
                            all)))))

(defun rlm-settings-place ()
  "Return what the settings of this place are remembered by: its project, or t."
  (or (and (or (not (file-remote-p default-directory)) rlm-remote-server)
           (require 'project)
           (when-let ((project (project-current)))
             (abbreviate-file-name (expand-file-name (project-root project)))))
      t))

(defun rlm-settings-remembered (place)
  "Return the settings that were used last in PLACE."
  (cdr (assoc place (plist-get (rlm-settings--read) :projects))))

(defun rlm-settings-remember (place settings)
  "Remember that SETTINGS were used in PLACE."
  (let ((settings (rlm-settings--lasting settings)))
    (unless (equal settings (rlm-settings-remembered place))
      (rlm-settings--put :projects place settings))))

(defun rlm-settings--lasting (settings)
  "Return SETTINGS without those that are unset or for one question."
  (cl-loop for (name value) on settings by #'cddr
           when (and value (not (memq name rlm-settings--once)))
           nconc (list name value)))

;;;; Presets

(defvar rlm-preset-history nil
  "Names of presets that were entered before.")

(defun rlm-preset (name)
  "Return the settings of the preset NAME."
  (cdr (assoc name (plist-get (rlm-settings--read) :presets))))

(defun rlm-settings-read-preset (prompt)
  "Read with PROMPT the name of a preset; its settings stand beside it."
  (let ((presets (plist-get (rlm-settings--read) :presets)))
    (unless presets
      (user-error "There is no preset; `rlm-save-preset' makes one"))
    (let ((completion-extra-properties
           (list :annotation-function
                 (lambda (name) (concat "  " (rlm-settings-text (cdr (assoc name presets))))))))
      (rlm-read-one prompt presets 'rlm-preset-history))))

;;;###autoload
(defun rlm-save-preset (name &optional settings)
  "Save SETTINGS under NAME, to be used again.
Interactively, these are what is set by `rlm-root-model', `rlm-sub-model',
`rlm-max-depth', `rlm-profile', `rlm-direct', `rlm-limits' and
`rlm-use-cache'; the menu of the command `rlm' saves its own."
  (interactive (list (rlm-collection-read-new-name
                      "Save what is set as preset" nil
                      (mapcar #'car (plist-get (rlm-settings--read) :presets)))))
  (when (string-blank-p name)
    (user-error "A preset needs a name"))
  (rlm-settings--put :presets name (or (rlm-settings--lasting
                                        (or settings (rlm-options-of-user)))
                                       (user-error "Nothing is set")))
  (message "Preset %s: %s" name (rlm-settings-text (rlm-preset name))))

;;;###autoload
(defun rlm-delete-preset (name)
  "Delete the preset NAME."
  (interactive (list (rlm-settings-read-preset "Delete preset: ")))
  (rlm-settings--put :presets name nil)
  (message "Deleted"))

;;;###autoload
(defun rlm-ask-with-preset (name)
  "Ask about what is meant, as `rlm-ask' does, with the settings of preset NAME."
  (interactive (list (rlm-settings-read-preset "Ask with preset: ")))
  (rlm-settings-ask (car (rlm-settings-subjects)) (rlm-preset name)))

;;;; Subjects

(defun rlm-settings-subjects ()
  "Return what a question can be about here, the most likely first.
These are symbols: region, marked, collection, project, buffer and files."
  (delq nil
        (list (and (use-region-p) 'region)
              (and (derived-mode-p 'dired-mode)
                   (require 'rlm-dired)
                   'marked)
              (and (not (rlm-collection-empty-p)) 'collection)
              (and (not (eq (rlm-settings-place) t)) 'project)
              (and (rlm-context-text-p (point-min) (point-max))
                   (not (derived-mode-p 'dired-mode))
                   'buffer)
              'files)))

(defun rlm-settings-subject-label (subject)
  "Return a few words for SUBJECT."
  (pcase subject
    ('region (format "the region of %s" (buffer-name)))
    ('marked (rlm-ask-files-label (rlm-dired-files)))
    ('collection (rlm-collection-label))
    ('project (format "project %s" (file-name-nondirectory
                                    (directory-file-name (rlm-settings-place)))))
    ('buffer (format (if (buffer-narrowed-p) "the visible part of %s" "%s") (buffer-name)))
    ('files "files to be chosen")))

(defun rlm-settings-subject-context (subject)
  "Return SUBJECT as a context; files are asked for."
  (pcase subject
    ('region (rlm-context-of-region (region-beginning) (region-end)))
    ('marked (let ((files (rlm-dired-files)))
               (rlm-context-of-files files (rlm-ask-files-label files) default-directory)))
    ('collection (rlm-collection-context))
    ('project (rlm-context-of-directory (expand-file-name (rlm-settings-place))
                                        (rlm-settings-subject-label subject)))
    ('buffer (rlm-context-of-buffer))
    ('files (let ((files (rlm-ask-read-files)))
              (rlm-context-of-files files (rlm-ask-files-label files))))))

(defun rlm-settings-ask (subject settings &optional question)
  "Ask QUESTION, or one that is read, about SUBJECT with SETTINGS."
  (let* ((question (or question
                       (rlm-read-question (rlm-settings-subject-label subject))))
         (context (rlm-settings-subject-context subject)))
    (rlm-ask-about question context (rlm-options settings))))

(provide 'rlm-settings)
;;; rlm-settings.el ends here
