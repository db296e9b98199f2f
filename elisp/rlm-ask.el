;;; rlm-ask.el --- The commands that ask  -*- lexical-binding: t; -*-

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

;; The commands that ask about the region, the buffer, files, or what is
;; meant; and how their question and its models are read.

;;; Code:

(require 'subr-x)
(require 'rlm)

(declare-function rlm-question-ask "rlm-question" (question context &optional options))
(declare-function rlm-collection-empty-p "rlm-collection" ())
(declare-function rlm-context-check-buffer "rlm-context" ())
(declare-function rlm-context-check-region "rlm-context" (beg end))
(declare-function rlm-context-of-buffer "rlm-context" ())
(declare-function rlm-context-of-files "rlm-context-files" (files label &optional base))
(declare-function rlm-context-of-region "rlm-context" (beg end))
(declare-function rlm-dired-marked-p "rlm-dired" ())
(declare-function rlm-models-read "rlm-models" (prompt models default))
(declare-function rlm-models-fetch "rlm-models" ())
(declare-function rlm-project-root "rlm-project" ())

(defvar rlm-question-history nil
  "Questions asked before.")

(defun rlm-read-question (about)
  "Read a question about something, ABOUT in a few words."
  (let ((question (string-trim (read-string (format "Ask about %s: " about)
                                            nil 'rlm-question-history))))
    (when (string-empty-p question)
      (user-error "No question"))
    (rlm-clean-question question)))

(defun rlm-clean-question (question)
  "Return QUESTION without raw bytes, which can't be sent."
  (replace-regexp-in-string "[\x3fff80-\x3fffff]" "\ufffd" question))

(defun rlm-read-one (prompt collection &optional history)
  "Read with PROMPT one of COLLECTION, names to complete; none is an error.
HISTORY is the variable with what was entered before."
  (let ((name (completing-read prompt collection nil t nil history)))
    (when (string-empty-p name)
      (user-error "Nothing is chosen"))
    name))

(defun rlm-read-options ()
  "Read, with completion, the models of the question that is being asked.
Return them as a plist of options; without a prefix argument, return nil."
  (when current-prefix-arg
    (require 'rlm-models)
    (let* ((models (rlm-models-fetch))
           (root (rlm-models-read "Root model" models rlm-root-model))
           (sub (rlm-models-read "Sub model" models rlm-sub-model)))
      (append (when root (list :rootModel root))
              (when sub (list :subModel sub))))))

;;;###autoload
(defun rlm-ask-about (question context &optional options)
  "Ask QUESTION about CONTEXT, an `rlm-context'; return the run's buffer.
OPTIONS, a plist as in the protocol such as (:rootModel \"big\"), go before
what the user has set."
  (require 'rlm-question)
  (rlm-question-ask question context options))

;;;###autoload
(defun rlm-ask-region (question beg end &optional options)
  "Ask QUESTION about the text between BEG and END, the region.
Unsaved changes are what is asked about.
With a prefix argument, choose the models first.  From Lisp, OPTIONS is a
plist as for `rlm-ask-about'."
  (interactive
   (let ((beg (region-beginning))
         (end (region-end)))
     (require 'rlm-context)
     (rlm-context-check-region beg end)
     (let ((options (rlm-read-options)))
       (list (rlm-read-question (format "the region of %s" (buffer-name))) beg end options))))
  (require 'rlm-context)
  (rlm-ask-about question (rlm-context-of-region beg end) options))

;;;###autoload
(defun rlm-ask-buffer (question &optional options)
  "Ask QUESTION about the current buffer, or its visible part if it is narrowed.
Unsaved changes are what is asked about.
With a prefix argument, choose the models first.  From Lisp, OPTIONS is a
plist as for `rlm-ask-about'."
  (interactive
   (progn
     (require 'rlm-context)
     (rlm-context-check-buffer)
     (let ((options (rlm-read-options)))
       (list (rlm-read-question
              (format (if (buffer-narrowed-p) "the visible part of %s" "%s") (buffer-name)))
             options))))
  (require 'rlm-context)
  (rlm-ask-about question (rlm-context-of-buffer) options))

;;;###autoload
(defun rlm-ask-files (question files &optional options)
  "Ask QUESTION about FILES, a list of names of files and directories.
Wildcards are expanded.  Unsaved changes are what is asked about.
With a prefix argument, choose the models first.  From Lisp, OPTIONS is a
plist as for `rlm-ask-about'."
  (interactive
   (let ((files (rlm-ask-read-files))
         (options (rlm-read-options)))
     (list (rlm-read-question (rlm-ask-files-label files)) files options)))
  (require 'rlm-context-files)
  (rlm-ask-about question (rlm-context-of-files files (rlm-ask-files-label files)) options))

(defun rlm-ask-read-files ()
  "Read names of files and directories until an empty one is entered."
  (let (files file)
    (while (progn
             (setq file (read-file-name
                         (if files
                             (format "And which file or directory (%d so far; empty to go on): "
                                     (length files))
                           "Which file or directory: ")
                         nil ""))
             (unless (or (string-empty-p file)
                         (and files (string= (expand-file-name file)
                                             (expand-file-name default-directory))))
               (setq files (append files (rlm-ask-expand-file file))))))
    (or files (user-error "No file"))))

(defun rlm-ask-expand-file (file)
  "Return the names of the files that FILE means, wildcards expanded."
  (if (file-exists-p file)
      (list (expand-file-name file))
    (or (file-expand-wildcards (expand-file-name file) t)
        (user-error "There is no %s" file))))

(defun rlm-ask-files-label (files)
  "Return a few words for FILES."
  (if (cdr files)
      (format "%d files" (length files))
    (abbreviate-file-name (car files))))

;;;###autoload
(defun rlm-ask ()
  "Ask a question about what is meant.
That is the region if it is active, else the marked files in a Dired buffer,
else what is collected (see `rlm-add'), else the project, else the buffer.
With a prefix argument, choose the models first."
  (interactive)
  (call-interactively (rlm-ask--command)))

(defun rlm-ask--command ()
  "Return the command that asks about what is meant here."
  (cond ((use-region-p) #'rlm-ask-region)
        ((and (derived-mode-p 'dired-mode)
              (require 'rlm-dired)
              (rlm-dired-marked-p))
         #'rlm-ask-dired)
        ;; Nothing is collected before that file is loaded.
        ((and (featurep 'rlm-collection) (not (rlm-collection-empty-p)))
         #'rlm-ask-collection)
        ((and (or (not (file-remote-p default-directory)) (bound-and-true-p rlm-remote-server))
              (require 'rlm-project)
              (rlm-project-root))
         #'rlm-ask-project)
        ((derived-mode-p 'dired-mode) #'rlm-ask-dired)
        (t #'rlm-ask-buffer)))

(provide 'rlm-ask)
;;; rlm-ask.el ends here
